"""What a client does with measures: compare two films, write tables."""
