"""What training a connector or adapter takes, and the study of all of them: rows, parts, training, answers, table."""
