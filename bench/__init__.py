"""``make bench``: what the bridge costs, beside aiohttp alone and beside other bridges, on this machine, in one run.

``run`` chooses cases and writes the report; ``suite`` is what a case gets and gives; a case in ``cases`` says what is
compared. ``load`` drives a server with the load generator, ``servers`` and ``peers`` start what is driven, ``mcp``
knows the bytes of requests. ``series`` does the arithmetic, ``report``, ``targets`` and ``plot`` the page.
"""
