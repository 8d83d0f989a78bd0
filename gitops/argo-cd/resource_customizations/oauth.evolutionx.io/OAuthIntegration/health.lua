-- The health of an OAuthIntegration, from its conditions, which follow kstatus.
local os = require("os")

-- Without a valid token, the first failures are Progressing: the operator retries within seconds.
local failures_until_degraded = 3

local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]

local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

local function health(code, message)
  return { status = code, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "the integration is being deleted")
end

if ready == nil or ready.status == "Unknown" then
  return health("Progressing", ready ~= nil and ready.message or "waiting for the operator")
end

if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "waiting until the operator has seen the latest change of the spec")
end

if ready.reason == "Suspended" then
  return health("Suspended", ready.message)
end

-- Nothing happens until someone changes something. While the token is still valid, the message says until when.
if is_true("Stalled") then
  return health("Degraded", ready.message)
end

-- Times in UTC without fractions can be compared as text.
if status.expiresAt ~= nil and status.expiresAt <= os.date("!%Y-%m-%dT%H:%M:%SZ") then
  if ready.status == "True" then
    return health("Degraded", "the token expired at " .. status.expiresAt .. ", and nothing has renewed it: is the operator running?")
  end
  return health("Degraded", ready.message)
end

if ready.status ~= "True" and status.lastFailure ~= nil and status.lastFailure.attempts >= failures_until_degraded then
  return health("Degraded", ready.message)
end

-- Also while a renewal fails and is retried, but the token is still valid.
if is_true("Reconciling") or ready.status ~= "True" then
  return health("Progressing", ready.message)
end

return health("Healthy", ready.message)
