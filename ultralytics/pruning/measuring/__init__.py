"""What `val.py` measures of files of any format, and how it says it."""
