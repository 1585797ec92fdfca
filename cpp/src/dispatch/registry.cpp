// Rows of isa_list.def as a constant array; supported means that the table's flags are present and the CPU has all the
// bits. NARROWCAST_ISA is read once, when the default is first asked for.
#include "dispatch/registry.hpp"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <string_view>

#include "dispatch/cpu_features.hpp"

namespace narrowcast {

#define NC_ISA(name, needed) extern const KernelTable table_##name;
#include "isa_list.def"

namespace {

struct IsaRow {
    const char* name;
    std::string_view needed;
    const KernelTable* table;
};

constinit const IsaRow isa_rows[] = {
#define NC_ISA(name, needed) {#name, needed, &table_##name},
#include "isa_list.def"
};

bool runs_here(const IsaRow& row) noexcept { return row.table->flags_present && cpu_features().has_all(row.needed); }

DefaultIsa choose_default() noexcept {
    DefaultIsa chosen{};
    const char* asked = getenv("NARROWCAST_ISA");
    if (asked != nullptr && *asked != '\0') {
        strncpy(chosen.asked, asked, sizeof chosen.asked - 1);
        chosen.table = find_isa(asked);
        return chosen;
    }
    for (const IsaRow& row : isa_rows) {
        if (runs_here(row)) {
            chosen.table = row.table;
            break;
        }
    }
    return chosen;
}

} // namespace

const char* isa_name(size_t position) noexcept {
    for (const IsaRow& row : isa_rows) {
        if (!row.table->flags_present)
            continue;
        if (position == 0)
            return row.name;
        --position;
    }
    return nullptr;
}

const KernelTable* find_isa(const char* name) noexcept {
    for (const IsaRow& row : isa_rows)
        if (strcmp(row.name, name) == 0)
            return runs_here(row) ? row.table : nullptr;
    return nullptr;
}

bool isa_is_compiled(const char* name) noexcept {
    for (const IsaRow& row : isa_rows)
        if (strcmp(row.name, name) == 0)
            return row.table->flags_present;
    return false;
}

const DefaultIsa& default_isa() noexcept {
    static const DefaultIsa chosen = choose_default();
    return chosen;
}

void list_supported_isas(char* buffer, size_t size) noexcept {
    size_t length = 0;
    const auto append = [&](std::string_view text) {
        for (const char letter : text)
            if (length + 1 < size)
                buffer[length++] = letter;
    };
    for (const IsaRow& row : isa_rows) {
        if (!runs_here(row))
            continue;
        append(length == 0 ? "" : ", ");
        append(row.name);
    }
    if (size != 0)
        buffer[length] = '\0';
}

} // namespace narrowcast
