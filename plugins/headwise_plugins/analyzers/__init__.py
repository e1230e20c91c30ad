"""Numbers for each head: one module an analyzer."""
