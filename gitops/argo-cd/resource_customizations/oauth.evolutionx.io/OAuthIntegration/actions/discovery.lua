local is_suspended = obj.spec.suspend == true
local is_deleted = obj.metadata.deletionTimestamp ~= nil

local actions = {}
-- While an integration is suspended, nothing is renewed.
actions["renew"] = { ["disabled"] = is_suspended or is_deleted }
actions["suspend"] = { ["disabled"] = is_suspended or is_deleted }
actions["resume"] = { ["disabled"] = not is_suspended or is_deleted }
return actions
