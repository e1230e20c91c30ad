"""What is known of Chinese text: its clauses, its words, what rhymes, and what depends on what."""
