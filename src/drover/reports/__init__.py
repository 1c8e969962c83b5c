"""What migrations came to: figures of one, a group, a plan or all of them, as JSON, CSV and a page to print."""
