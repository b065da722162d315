"""Files that a user provides: plain data and model yamls, read safely or refused in one line."""
