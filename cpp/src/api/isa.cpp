// Names come from callers and the environment; refusals say what was asked for and what there is.
#include "api/isa.hpp"

#include "api/error.hpp"
#include "dispatch/registry.hpp"

namespace narrowcast {
namespace {

nc_status refuse(const char* where, const char* asked, nc_error* error) noexcept {
    char available[128];
    list_supported_isas(available, sizeof available);
    return fail(error, NC_ERROR_ISA, "%s is \"%.40s\", which %s; this CPU can run: %s", where, asked,
                isa_is_compiled(asked) ? "this CPU lacks" : "is no instruction set of this library", available);
}

} // namespace

nc_status choose_table(const char* name, nc_error* error, const KernelTable*& table) noexcept {
    if (name != nullptr) {
        table = find_isa(name);
        return table != nullptr ? NC_OK : refuse("options.isa", name, error);
    }
    const DefaultIsa& chosen = default_isa();
    table = chosen.table;
    return table != nullptr ? NC_OK : refuse("NARROWCAST_ISA", chosen.asked, error);
}

} // namespace narrowcast
