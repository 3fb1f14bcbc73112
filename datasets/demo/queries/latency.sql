-- How long from the rendered message to its acceptance? Apart for those that had to be tried again.
SELECT attempts,
       count(*) AS delivered,
       quantile_disc(time_to_accept_ms, 0.50) AS p50_ms,
       quantile_disc(time_to_accept_ms, 0.95) AS p95_ms,
       quantile_disc(time_to_accept_ms, 0.99) AS p99_ms,
       max(time_to_accept_ms) AS max_ms
FROM read_parquet('accounting/v1/messages/**/*.parquet',
                  hive_partitioning = true, union_by_name = true)
WHERE final_state = 'delivered'
GROUP BY attempts
ORDER BY attempts;
