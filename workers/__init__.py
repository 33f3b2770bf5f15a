"""Workers: one table says what runs where, one stack owns lifetimes."""
