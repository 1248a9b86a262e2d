-- Cycles through the bodies of the file that BODIES names (one a line), or through the paths of the one that PATHS
-- names; without either, GET. Prints one line of JSON.
local requests, turn = {}, 0

function init()
  local paths = os.getenv("PATHS")
  if paths then
    for path in io.lines(paths) do
      requests[#requests + 1] = wrk.format("GET", path)
    end
    return
  end
  local bodies = os.getenv("BODIES")
  if not bodies then
    requests[1] = wrk.format("GET")
    return
  end
  local headers = { ["Content-Type"] = "application/json" }
  for name, value in pairs(wrk.headers) do
    headers[name] = value
  end
  for body in io.lines(bodies) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status, e.connect + e.read + e.write + e.timeout))
end
