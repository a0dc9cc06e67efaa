"""The paper's figures and tables, drawn from Datasets that the analysis commands wrote."""
