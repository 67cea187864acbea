"""One file per question. Each has ``run(suite)``, and says in its docstring what it measures."""
