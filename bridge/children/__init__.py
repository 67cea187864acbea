"""Live children and who may hold them: connections, pools, leases, the registry of servers.

Knows what a request and an answer are; what HTTP is, only the modules of remote servers do. May import
``process``, ``protocol``, ``config``, ``observe``.
"""
