"""Many runs: the queue that trains them in processes of their own."""
