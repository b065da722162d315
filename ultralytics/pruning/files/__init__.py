"""Files and folders: where names lead, whole or not at all, one process at a time."""
