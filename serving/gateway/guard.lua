-- Refuses, before Triton sees it, the JSON of a V2 inference request that kills Triton 2.51: nested deeper than its
-- parser's stack, or dimensions whose product it does not check; and calls the client's mistakes that Triton 2.51 answers
-- with 500 by their name, 400. Over gRPC, where Triton dies of dimensions alone, the shapes of the protobuf message are
-- read, and its tensors are passed over. Envoy runs this on each request (envoy_listeners.py).
local DEEPEST, LARGEST = 64, 2147483647
-- How the messages of Triton's JSON reader begin (triton_json.h); none of a model does.
local MISTAKES = {
  "failed to parse the request JSON buffer", "attempt to access ", "Unable to parse '", "failed to get request params",
}

local GRPC_INFER = "/inference.GRPCInferenceService/ModelInfer"
local INPUTS, SHAPE, FRAME, WINDOW = 5, 3, 5, 4096  -- field numbers of ModelInferRequest; bytes
local VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  -- wire types

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

-- Reads `body` a window at a time: a function from a position (0 is the first) to the byte there.
local function bytes_of(body)
  local size, from, window = body:length(), 0, ""
  return function(at)
    if at >= size then error("cut off", 0) end
    if at < from or at >= from + #window then
      from, window = at, body:getBytes(at, math.min(WINDOW, size - at))
    end
    return window:byte(at - from + 1)
  end
end

-- The number at `at`, and where it ends. Beyond 2^53 it is inexact, and as negative ones do (10 bytes) too large for all.
local function varint(byte, at)
  local number, factor = 0, 1
  for place = at, at + 9 do
    local one = byte(place)
    number = number + one % 128 * factor
    if one < 128 then return number, place + 1 end
    factor = factor * 128
  end
  error("a number of more than 10 bytes", 0)
end

-- Calls `visit(field, wire type, from, to)` for each field of the message in [at, to); `from` is where its value begins.
local function fields(byte, at, to, visit)
  while at < to do
    local tag, from = varint(byte, at)
    local wire = tag % 8
    if tag >= 2 ^ 32 then error("a field of an unknown number", 0) end
    if wire == VARINT then
      _, at = varint(byte, from)
    elseif wire == FIXED64 then
      at = from + 8
    elseif wire == FIXED32 then
      at = from + 4
    elseif wire == LENGTH then
      local length
      length, from = varint(byte, from)
      at = from + length
    else
      error("a group", 0)
    end
    if at > to then error("cut off", 0) end
    visit(math.floor(tag / 8), wire, from, at)
  end
end

-- Raises what is wrong with the shape of an input tensor, packed or not.
local function check_tensor(byte, from, to)
  local product = 1
  local function dimension(at)
    local number, after = varint(byte, at)
    product = product * number
    if number > LARGEST or product > LARGEST then error("a shape is larger than any tensor here", 0) end
    return after
  end
  fields(byte, from, to, function(field, wire, start, stop)
    if field == SHAPE and wire == VARINT then dimension(start) end
    if field == SHAPE and wire == LENGTH then
      while start < stop do start = dimension(start) end
    end
  end)
end

-- Raises what is wrong with the message of a ModelInfer.
local function check_message(byte, size)
  local length = 0
  for place = 1, 4 do length = length * 256 + byte(place) end
  if length + FRAME ~= size then error("one request is one message", 0) end
  fields(byte, FRAME, size, function(field, wire, from, to)
    if field == INPUTS and wire == LENGTH then check_tensor(byte, from, to) end
  end)
end

-- INVALID_ARGUMENT (3), or UNIMPLEMENTED (12) for what is compressed, in which shapes could hide.
local function guard_grpc(handle)
  local body = handle:body()
  if not body then return end
  local byte = bytes_of(body)
  local is_well, found = pcall(check_message, byte, body:length())
  local code, text = "3", tostring(found)
  if body:length() > 0 and byte(0) ~= 0 then
    is_well, code, text = false, "12", "a compressed message is not read here"
  end
  if is_well then return end
  handle:respond({[":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = code,
    ["grpc-message"] = text}, nil)
end

local function refuse(handle, status, text)
  handle:respond({[":status"] = status, ["content-type"] = "application/json"}, '{"error":"' .. text .. '"}')
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path"):match("^[^?]*")
  if path == GRPC_INFER then return guard_grpc(handle) end
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
  local status = handle:headers():get(":status")
  if not status:match("^[45]") then return end
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  local error = text:match('^{"error":"(.*)')
  if not error then return end
  local plain = text:gsub("[\128-\255]", "?")  -- Triton quotes a request's bytes as they came: no JSON then
  if plain ~= text then body:setBytes(plain) end
  for _, beginning in ipairs(MISTAKES) do
    if status == "500" and error:sub(1, #beginning) == beginning then handle:headers():replace(":status", "400") end
  end
end
