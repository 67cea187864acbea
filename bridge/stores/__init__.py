"""What of a session survives a restart, and where it is kept: memory, a file, Redis.

Used by ``sessions`` only. May import ``protocol``, ``config`` and ``observe``.
"""
