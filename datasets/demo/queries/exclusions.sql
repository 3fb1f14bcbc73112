-- Which rows of the list got nothing, and why? input_line is the line to look at in the file.
SELECT exclusion_reason,
       count(*) AS messages,
       min(input_line) AS first_line,
       max(input_line) AS last_line
FROM read_parquet('accounting/v1/messages/**/*.parquet',
                  hive_partitioning = true, union_by_name = true)
WHERE final_state = 'excluded'
GROUP BY exclusion_reason
ORDER BY messages DESC, exclusion_reason;
