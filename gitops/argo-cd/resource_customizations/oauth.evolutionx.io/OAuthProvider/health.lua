-- The health of a provider, from its conditions, which follow kstatus.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]
local stalled = conditions["Stalled"]

local function health(code, message)
  return { status = code, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "the provider is being deleted")
end

if ready == nil or ready.status == "Unknown" then
  return health("Progressing", ready ~= nil and ready.message or "waiting for the operator")
end

if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "waiting until the operator has seen the latest change of the spec")
end

-- Nothing happens until someone changes something.
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", ready.message)
end

if ready.status ~= "True" then
  return health("Progressing", ready.message)
end

return health("Healthy", ready.message)
