-- The corpus' databases `logs` and `kept`.
CREATE TABLE Lines (LineId STRING(36) NOT NULL, Text STRING(MAX)) PRIMARY KEY (LineId);
