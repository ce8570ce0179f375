"""Who answers: local models, servers, files of recorded answers."""
