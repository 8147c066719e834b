"""Where predictions go: an AnnData in memory, or an .h5ad or .zarr file that a killed run can continue."""
