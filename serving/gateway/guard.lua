-- Refuses, before Triton sees it, the JSON of a V2 inference request that kills Triton 2.51: nested deeper than its
-- parser's stack, or dimensions whose product it does not check; and calls the client's mistakes that Triton 2.51 answers
-- with 500 by their name, 400. Envoy runs this on each request (envoy_listeners.py).
local DEEPEST, LARGEST = 64, 2147483647
-- How the messages of Triton's JSON reader begin (triton_json.h); none of a model does.
local MISTAKES = {"failed to parse the request JSON buffer", "attempt to access "}

-- Says what is wrong with the shape whose text begins at `at`; nil when nothing is.
local function wrong_shape(text, at)
  local inner = text:match("^%s*%[([^%[%]]*)%]", at)
  if not inner then return "a shape must be a flat list" end
  local product = 1
  for item in (inner .. ","):gmatch("([^,]*),") do
    local number = item:match("^%s*(%d+)%s*$")
    if number then
      product = product * tonumber(number)
      if tonumber(number) > LARGEST or product > LARGEST then return "a shape is larger than any tensor here" end
    elseif item:match("%S") or inner:match(",") then
      return "a dimension must be a non-negative whole number"
    end
  end
end

-- Says what is wrong with a request's JSON; nil when nothing is that matters here.
local function wrong(text)
  local at, depth = 1, 0
  while true do
    at = text:find('[%[%]{}"]', at)
    if not at then return end
    local sign = text:sub(at, at)
    if sign == '"' then
      local first = at + 1
      repeat
        at = text:find('["\\]', at + 1)
        if not at then return end
        local escaped = text:sub(at, at) == "\\"
        if escaped then at = at + 1 end
      until not escaped
      local colon = text:match("^%s*:()", at + 1)
      if colon then
        local key = text:sub(first, at - 1)
        if key:find("\\", 1, true) then return "a name may not have escapes" end
        local found = key == "shape" and wrong_shape(text, colon)
        if found then return found end
      end
    elseif sign == "[" or sign == "{" then
      depth = depth + 1
      if depth > DEEPEST then return "the JSON is nested deeper than " .. DEEPEST end
    else
      depth = depth - 1
    end
    at = at + 1
  end
end

local function refuse(handle, status, text)
  handle:respond({[":status"] = status, ["content-type"] = "application/json"}, '{"error":"' .. text .. '"}')
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path"):match("^[^?]*")
  if headers:get(":method") ~= "POST" or path:sub(1, 4) ~= "/v2/" or path:sub(-6) ~= "/infer" then return end
  if headers:get("content-encoding") then return refuse(handle, "415", "a compressed body is not read here") end
  local told = headers:get("inference-header-content-length")
  if told and not told:match("^%d+$") then
    return refuse(handle, "400", "Inference-Header-Content-Length must be a whole number")
  end
  local body = handle:body()
  if not body then return end
  local found = wrong(body:getBytes(0, math.min(tonumber(told) or math.huge, body:length())))
  if found then refuse(handle, "400", found) end
end

function envoy_on_response(handle)
  if handle:headers():get(":status") ~= "500" then return end
  local body = handle:body()
  local error = body and body:getBytes(0, body:length()):match('^{"error":"(.*)') or ""
  for _, beginning in ipairs(MISTAKES) do
    if error:sub(1, #beginning) == beginning then handle:headers():replace(":status", "400") end
  end
end
