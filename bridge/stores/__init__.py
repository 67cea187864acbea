"""What of a session survives a restart, and where it is kept: memory, a file, Redis.

Used by ``sessions``; ``cluster`` shares the way to Redis. May import ``config`` and ``observe``.
"""
