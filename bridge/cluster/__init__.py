"""Nodes that answer for each other, workers of one host or machines: who they are, which of them holds a session, and
how one believes another. Knows nothing of HTTP, sessions or children. Imports ``aio``, ``config``, and the way to Redis
of ``stores``.
"""
