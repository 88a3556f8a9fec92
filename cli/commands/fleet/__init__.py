"""Commands about nodes and providers: what they have, who holds it, and how much of it may be used."""
