"""Commands that find places for consumers, claim them, and move what consumers hold."""
