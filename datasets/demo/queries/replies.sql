-- Who deferred or refused, and how often? One line per domain, from every attempt of every run.
SELECT rcpt_domain,
       count(*) AS attempts,
       count(*) FILTER (WHERE event_type = 'deferred') AS deferred,
       count(*) FILTER (WHERE event_type = 'bounced') AS bounced,
       round(100.0 * bounced / attempts, 2) AS bounced_percent,
       mode(response_norm) FILTER (WHERE event_type IN ('deferred', 'bounced')) AS usual_reply
FROM read_parquet('accounting/v1/events/**/*.parquet',
                  hive_partitioning = true, union_by_name = true)
GROUP BY rcpt_domain
HAVING deferred + bounced > 0
ORDER BY deferred + bounced DESC, rcpt_domain
LIMIT 20;
