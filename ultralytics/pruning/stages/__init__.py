"""What the scripts run, one file each."""
