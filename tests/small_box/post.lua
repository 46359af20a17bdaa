-- Notifications of Orion's kind, none like another: BODY_BYTES long, or thereabouts.
-- With BODY_FRESH they pack to a half and no further, for disks that are to be full.
local streams = tonumber(os.getenv("STREAMS") or "1")
local fresh = os.getenv("BODY_FRESH")
local bytes = tonumber(os.getenv("BODY_BYTES") or "600")
local count = 0
local random = math.random

function init()
  math.randomseed(os.time())
  local filler = {}
  -- Text that packs to about a half, as base64 or numbers do.
  for i = 1, 4096 do filler[i] = string.char(97 + random(0, 15)) end
  text = string.rep(table.concat(filler), math.ceil(bytes / 4096) + 1)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Fiware-Service"] = "plant1"
  wrk.headers["Fiware-ServicePath"] = "/hall2"
end

function attribute(name)
  return string.format('"%s":{"type":"Number","value":%.3f,"metadata":{"TimeInstant":{"type":"DateTime","value":"2026-11-26T%02d:%02d:%02d.%03dZ"}}}',
    name, 20 + 80 * random(), random(0, 23), random(0, 59), random(0, 59), random(0, 999))
end

function noise(length)
  local words = {}
  for i = 1, math.floor(length / 6) do words[i] = string.format("%06x", random(0, 16777215)) end
  return table.concat(words)
end

function request()
  count = count + 1
  local parts = { string.format('{"subscriptionId":"5aeb0ee97d4ef10a12a0262f","data":[{"id":"urn:Press:%d","type":"Press"', random(1, 200)) }
  local long = #parts[1]
  local names = { "temperature", "pressure", "vibration" }
  for _, name in ipairs(names) do
    parts[#parts + 1] = attribute(name)
    long = long + #parts[#parts] + 1
  end
  if long + 60 < bytes then
    local more = bytes - long - 60
    local from = random(1, 4096)
    local value = fresh and noise(more) or string.sub(text, from, from + more)
    parts[#parts + 1] = string.format('"spectrum":{"type":"Text","value":"%s%d"}', value, count)
  end
  return wrk.format(nil, streams > 1 and "/notify/s" .. random(1, streams) or "/notify", nil, table.concat(parts, ",") .. "}]}")
end
