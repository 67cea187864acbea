"""What outlives one request: streamable sessions, bridge clients, the two pools and their reapers.

May import ``children`` and everything further in, and ``stores``.
"""
