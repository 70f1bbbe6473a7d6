"""What is learned: the tasks, and what measures and answers by them."""
