"""The `proc-decam` command: thin click commands, each of which calls one function below and reports what came back."""
