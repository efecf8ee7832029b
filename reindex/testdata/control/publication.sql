-- The publication that every version made, but for the watermark table: that is added to it
-- when the dump is loaded, which has its number in the publication of the other tables.
CREATE PUBLICATION dbsync_mypub FOR TABLE categories, events, order_lines, orders, products
	WITH (publish_via_partition_root = true);
COMMENT ON PUBLICATION dbsync_mypub IS 'kept by dbsync';
