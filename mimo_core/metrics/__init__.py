"""How near a restored image comes to its reference."""
