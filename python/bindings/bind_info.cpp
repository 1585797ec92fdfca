// Facts: formats, instruction sets, status and reason codes, version. Names and meanings are the core's; the Python
// side gives them documentation and types.
#include <sstream>
#include <string>

#include "arrays.hpp"

namespace narrowcast::python {
namespace {

py::dict facts(const nc_format_info& info) {
    py::dict row;
    row["name"] = info.name;
    row["id"] = info.id;
    row["code"] = info.format;
    row["is_float"] = info.is_float != 0;
    row["storage_bytes"] = info.storage_bytes;
    row["bits"] = info.bits;
    row["sign_bits"] = info.sign_bits;
    row["exponent_bits"] = info.exponent_bits;
    row["mantissa_bits"] = info.mantissa_bits;
    row["bias"] = info.bias;
    row["has_inf"] = info.has_inf != 0;
    row["has_nan"] = info.has_nan != 0;
    row["has_zero"] = info.has_zero != 0;
    row["has_negative_zero"] = info.has_negative_zero != 0;
    row["max_code"] = info.max_code;
    row["min_code"] = info.min_code;
    row["smallest_normal_code"] = info.smallest_normal_code;
    row["smallest_subnormal_code"] = info.smallest_subnormal_code;
    row["nan_code"] = info.nan_code;
    row["negative_nan_code"] = info.negative_nan_code;
    row["inf_code"] = info.inf_code;
    return row;
}

py::list formats() {
    py::list rows;
    for (std::int32_t position = 0;; ++position) {
        nc_format_info info{};
        info.size = sizeof info;
        const std::int32_t format = nc_format_at(position);
        if (format == NC_FORMAT_INVALID || nc_format_get_info(format, &info) != NC_OK) {
            return rows;
        }
        rows.append(facts(info));
    }
}

py::list isas() {
    py::list rows;
    for (std::int32_t position = 0; const char* name = nc_isa_name(position); ++position) {
        rows.append(py::make_tuple(name, nc_isa_supported(name) != 0));
    }
    return rows;
}

std::string default_isa() {
    nc_error error{};
    error.size = sizeof error;
    const char* name = nullptr;
    if (nc_isa_default(&name, &error) != NC_OK) {
        throw py::value_error(error.message);
    }
    return name;
}

py::list cpu_features() {
    std::string text(nc_cpu_features(nullptr, 0) + 1, '\0');
    nc_cpu_features(text.data(), text.size());
    py::list names;
    std::istringstream words(text.c_str());
    for (std::string word; words >> word;) {
        names.append(word);
    }
    return names;
}

} // namespace

void bind_info(py::module_& module) {
    module.attr("version") = nc_version();
    module.attr("ERROR_ARGUMENT") = static_cast<int>(NC_ERROR_ARGUMENT);
    module.attr("ERROR_FORMAT") = static_cast<int>(NC_ERROR_FORMAT);
    module.attr("ERROR_OVERLAP") = static_cast<int>(NC_ERROR_OVERLAP);
    module.attr("ERROR_OVERFLOW") = static_cast<int>(NC_ERROR_OVERFLOW);
    module.attr("ERROR_ISA") = static_cast<int>(NC_ERROR_ISA);
    module.attr("REASON_FINITE") = static_cast<int>(NC_REASON_FINITE);
    module.attr("REASON_INFINITE") = static_cast<int>(NC_REASON_INFINITE);
    module.attr("REASON_NAN") = static_cast<int>(NC_REASON_NAN);
    module.attr("REASON_ZERO") = static_cast<int>(NC_REASON_ZERO);
    module.attr("REASON_NEGATIVE") = static_cast<int>(NC_REASON_NEGATIVE);
    module.def("formats", &formats);
    module.def("isas", &isas);
    module.def("default_isa", &default_isa);
    module.def("cpu_features", &cpu_features);
}

} // namespace narrowcast::python
