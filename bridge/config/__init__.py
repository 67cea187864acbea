"""Settings and ``servers.json`` as frozen values, checked when they are built. A leaf: imports nothing of ours."""
