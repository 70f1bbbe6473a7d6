"""What the commands of the command line do, one module each; callable from Python as well."""
