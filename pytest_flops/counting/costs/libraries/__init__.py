"""Rules for operators that other libraries bring, loaded when the first of them is met."""
