"""Host-side data: generated benchmarks and the pipeline that feeds them."""
