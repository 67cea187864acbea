"""Who a token belongs to, and what its holder may do. Nothing here knows HTTP."""
