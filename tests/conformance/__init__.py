"""The public conformance suite, against a fixture served by its own SDK (the control) and through the bridge."""
