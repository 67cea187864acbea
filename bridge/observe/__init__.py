"""What an operator sees: log files now, metrics later. A leaf: imports nothing of ours."""
