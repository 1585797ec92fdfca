// Structs whose size, their first member, may be that of an older or a newer library's: options are read, facts
// written.
#pragma once

#include <stddef.h>
#include <string.h>

#include <algorithm>

#include "api/error.hpp"

namespace narrowcast {

// Takes the given members from the caller's struct (null: none of them) into `options`, which holds the defaults. An
// older caller's struct ends early: whole members that it has are read. type is the struct's name.
template <class Options, class... Member>
nc_status copy_options(const Options* given, const char* argument, const char* type, nc_error* error, Options& options,
                       Member Options::*... members) noexcept {
    if (given == nullptr)
        return NC_OK;
    if (given->size < sizeof given->size || given->size > sizeof options)
        return fail(error, NC_ERROR_ARGUMENT, "%s.size is %zu; it must be sizeof(%s), which is %zu in this library",
                    argument, given->size, type, sizeof options);
    if (given->size == sizeof options) {
        options = *given;
        return NC_OK;
    }
    const auto take = [&](auto member) {
        const char* const field = reinterpret_cast<const char*>(&(options.*member));
        const size_t end =
            static_cast<size_t>(field - reinterpret_cast<const char*>(&options)) + sizeof(options.*member);
        if (given->size >= end)
            options.*member = given->*member;
    };
    (take(members), ...);
    return NC_OK;
}

// Fills the caller's struct of facts, which may end early or late: what both know is written, the size stays theirs.
template <class Info> void copy_info(Info facts, Info& to) noexcept {
    facts.size = to.size;
    memcpy(&to, &facts, std::min(to.size, sizeof facts));
}

} // namespace narrowcast
