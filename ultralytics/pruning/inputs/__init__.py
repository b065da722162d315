"""Files that a person hands over: plain data and model yamls, read safely or refused in one line."""
