"""Nodes that answer for each other, workers of one host or machines: who they are, which of them holds a session, and
how one believes another. Knows nothing of HTTP, sessions or children; imports ``aio``, ``config``, and of ``stores`` the
way to Redis.
"""
