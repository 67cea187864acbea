"""What an operator reads: logs, the audit log, traces, and what must not stand in any of them. A leaf."""
