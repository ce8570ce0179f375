"""How far evidence supports a claim: one file per judge."""
