"""A process manager that turns MCP servers which speak stdio into HTTP services.

The folder chain is the message path: ``cli -> web -> sessions -> children -> process -> protocol``, imports go inward
only. ``config`` and ``observe`` are leaves that import nothing of ours; ``stores`` is used by ``sessions`` alone.
"""
