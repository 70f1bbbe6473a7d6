"""What every room stands on: errors, files, the console, processes. Knows nothing of BERT."""
