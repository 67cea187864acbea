"""Live children and who may hold them: connections, pools, leases, the registry of servers.

Knows what a request and an answer are, not what HTTP is. May import ``process``, ``remote``, ``protocol``, ``config``,
``observe``.
"""
